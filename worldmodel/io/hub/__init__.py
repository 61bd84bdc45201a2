"""Worlds by name, and on the Hugging Face Hub (the extra `hub`): resolving names, pushing, pulling, model cards."""
