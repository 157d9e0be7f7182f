"""Small networks that tell scikit-learn's handwritten digits apart: three kinds, trained here."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

WIDTH, DEPTH, HEADS = 64, 3, 4


class Block(nn.Module):
    """Attention and a perceptron, each behind a normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.mixed, self.output = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.expand, self.contract = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.hidden = nn.GELU()

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Apply the block to tokens (B, T, WIDTH)."""
        parts = self.mixed(self.norm1(tokens)).unflatten(2, (3, HEADS, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.output(attended.transpose(1, 2).flatten(2))
        return tokens + self.contract(self.hidden(self.expand(self.norm2(tokens))))


class Transformer(nn.Module):
    """A vision transformer for images of 8 x 8 pixels, in 16 patches of 2 x 2."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, WIDTH, 2, stride=2)
        self.positions = nn.Parameter(0.02 * torch.randn(1, 16, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(WIDTH)
        self.classes = nn.Linear(WIDTH, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (B, 10) of images (B, 1, 8, 8)."""
        tokens = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        return self.classes(self.norm(self.blocks(tokens)).mean(1))


def convolutions() -> nn.Module:
    """Make a convolutional network."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def perceptron() -> nn.Module:
    """Make a perceptron with one hidden layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Return all 1,797 images (N, 1, 8, 8) in [0, 1], and their labels."""
    data = load_digits()
    images = torch.tensor(data.images / 16, dtype=torch.float32)[:, None]
    return images, torch.tensor(data.target)


def split_digits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return images and labels for training, and a quarter for testing."""
    images, labels = digits()
    train, test = train_test_split(
        range(len(images)), test_size=0.25, random_state=0, stratify=labels
    )
    return images[train], labels[train], images[test], labels[test]


def trained(
    make: Callable[[], nn.Module],
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    epochs: int = 40,
    seed: int = 0,
) -> nn.Module:
    """Train a network, and return it in evaluation mode; torch's own generator is left alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = make()
        optimizer = torch.optim.Adam(network.parameters(), 2e-3)
        for _ in range(epochs):
            for part in torch.randperm(len(images)).split(128):
                optimizer.zero_grad()
                F.cross_entropy(network(images[part]), labels[part]).backward()
                optimizer.step()
    return network.eval()


def accuracy(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the share of images that are recognized."""
    with torch.no_grad():
        return float((network(images).argmax(1) == labels).float().mean())
