"""The local AWS: moto's in-process server with real SSH, training, serving and functions on top. See README.md."""
