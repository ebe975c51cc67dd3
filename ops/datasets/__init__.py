"""Image folders, checks, shards and manifests; push, pull and verify; the bucket that holds them."""
