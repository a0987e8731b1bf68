"""Training from scratch: VAEs, denoisers, and the bundling of what came out."""
