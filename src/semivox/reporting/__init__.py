"""Reporting: scores of many runs in, one offline HTML file out."""
