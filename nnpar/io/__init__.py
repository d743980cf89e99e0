"""Files: tensors in safetensors."""
