"""That this file is here lets the tests of methods write ``from crops import toy_batch``."""
