"""Cross-validation: how many latents a recording needs."""
