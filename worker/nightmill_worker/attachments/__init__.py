"""Attachments: files that a request refers to, read just before its call."""
