"""The version; pyproject.toml reads it from here, so a plain checkout knows it too."""

VERSION = "0.1.0"
