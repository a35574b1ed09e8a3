"""The kernels, one module per kind of feature; `levibot_core.features.kernels` puts them together."""
