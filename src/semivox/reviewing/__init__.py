"""Reviewing: the page on which a person looks at masks, and what they said of them, review.json."""
