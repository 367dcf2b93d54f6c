"""What a sweep needs elsewhere: a manifest for Kubernetes, a batch script, a cluster of virtual machines, an image."""
