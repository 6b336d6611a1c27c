"""Floor 2, the craft of models: from a name, a file or a module to a network with a head for the classes at hand."""
