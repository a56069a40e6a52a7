"""The door in OpenAI's words: chat completions, completions, embeddings, responses and models.

Every answer comes from `NodeControl.generate` or `NodeControl.embed`; nothing here knows of swarms.
"""
