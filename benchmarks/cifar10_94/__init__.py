"""The speed recipe on CIFAR-10 beside a plain eager PyTorch transcription of the published one."""
