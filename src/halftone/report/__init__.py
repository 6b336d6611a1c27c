"""Floor 5: from what a run left in its folder to figures and a page."""
