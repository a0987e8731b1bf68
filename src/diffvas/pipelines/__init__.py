"""What turns conditions into results: the pipeline of one stage, and both stages on a clip."""
