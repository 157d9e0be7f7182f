"""Groups of channels, against scikit-learn itself."""

import numpy as np
import pytest

from fvfast.lucent.misc.channel_reducer import ChannelReducer

decomposition = pytest.importorskip("sklearn.decomposition")


@pytest.fixture
def activations():
    return np.random.default_rng(0).random((4, 5, 6))


@pytest.mark.parametrize("algorithm", ["NMF", "PCA"])
def test_groups(algorithm, activations):
    reducer = ChannelReducer(2, algorithm, random_state=0, tol=0.01)
    weights = reducer.fit_transform(activations)
    own = getattr(decomposition, algorithm)(n_components=2, random_state=0, tol=0.01)
    np.testing.assert_allclose(
        weights, own.fit_transform(activations.reshape(20, 6)).reshape(4, 5, 2)
    )
    np.testing.assert_allclose(reducer.components, own.components_)
    one = activations[0]
    np.testing.assert_allclose(reducer(one), own.transform(one))


def test_the_first_call_finds_the_groups(activations):
    reducer = ChannelReducer(3, decomposition.PCA)
    first = reducer(activations)
    assert first.shape == (4, 5, 3)
    np.testing.assert_allclose(reducer(activations), first, atol=1e-12)
    assert ChannelReducer(1, "PCA").fit(activations).n_components_ == 1


def test_mistakes():
    with pytest.raises(ValueError, match="n_components must be an integer of at least 1, got 0"):
        ChannelReducer(0)
    with pytest.raises(ValueError, match="reduction_alg is 'SOM'; expected the name of a class"):
        ChannelReducer(2, "SOM")
    with pytest.raises(AttributeError, match="no attribute 'components'"):
        ChannelReducer(2).components  # noqa: B018
