"""Explain methods: one file each."""
