from tests.classify.conftest import filled

__all__ = ["filled"]
