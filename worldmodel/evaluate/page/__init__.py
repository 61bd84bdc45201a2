"""The pages that people read: a film, a verdict, and figures by question; each page is one file."""
