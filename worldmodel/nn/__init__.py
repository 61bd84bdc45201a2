"""Layers and encodings that tokenizer and prior share."""
