"""Trained models and feature stores to the Hugging Face hub, each with its card."""
