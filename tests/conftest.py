"""What every test can use; that this file is here also lets tests write ``from toys import write_toy_dataset``."""
