"""Records what torch says about itself and the device.

``python -m benchmarks.gpu.torch_facts FOLDER`` runs beside the build, so that later stages find
torch's files in memory.
"""

import importlib
import sys
import time
from pathlib import Path

from benchmarks.gpu.records import Records

LIBRARIES = ("torch", "torchvision", "timm", "triton")


def main() -> None:
    """Record facts."""
    records = Records(Path(sys.argv[1]), "build")
    for name in LIBRARIES:
        began = time.monotonic()
        try:
            importlib.import_module(name)
        except ImportError as error:
            records.leave_out(name, str(error))
            continue
        records.add("import", what=name, seconds=time.monotonic() - began)
    import torch

    values: dict[str, object] = {
        "CUDA of torch": torch.version.cuda,
        "cuDNN": torch.backends.cudnn.version(),
        "TF32 in convolutions": torch.backends.cudnn.allow_tf32,
        "GPUs": torch.cuda.device_count(),
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        for name in dir(properties):
            if not name.startswith("_") and isinstance(getattr(properties, name), (int, str)):
                values[name] = getattr(properties, name)
    for what, value in values.items():
        records.add("fact", what=what, value=value)


if __name__ == "__main__":
    main()
