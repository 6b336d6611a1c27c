"""Floor 4: a run from the wish to the result: recipe, plan, session, folder, checkpoints, training, inference."""
