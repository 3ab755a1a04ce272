"""What is wrong with a model or its data: evidence of many images in, findings with their doubt out."""
