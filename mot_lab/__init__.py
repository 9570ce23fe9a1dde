"""Dense, expert-choice MoE and Mixture-of-Transformers backbones, compared head to head."""

__version__ = "0.1.0"
