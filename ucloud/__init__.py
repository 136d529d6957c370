"""ucloud turns a rack of ordinary machines into a cloud. Start reading at ARCHITECTURE.md."""

__version__ = "0.1.0"
