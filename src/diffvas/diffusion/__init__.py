"""The maths and the conditioning, shared by training and inference."""
