"""Reports for people: one HTML page, TensorBoard, plots."""
