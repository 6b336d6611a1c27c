"""Floor 5: listeners that carry events to places: the terminal, tables, TensorBoard, W&B, MLflow."""
