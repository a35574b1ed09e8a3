"""The Temporal Fusion Transformer of pytorch-forecasting: training, export to ONNX, and prediction without torch.

`windows`, `quantile_function`, `configuration` and `predictor` need numpy (and, once a model is read, onnxruntime):
serving imports them. `dataset`, `network`, `training` and `export` bring torch and pytorch-forecasting.
"""
