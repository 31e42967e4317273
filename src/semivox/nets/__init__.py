"""Networks that give logits and features, made by name: `MakeNet` in ``build``; heads and small parts in ``heads``."""
