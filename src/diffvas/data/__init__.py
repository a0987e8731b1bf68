"""From clips with truth to training examples."""
