"""What runs show: paired statistics, and the words and methods of a verdict."""
