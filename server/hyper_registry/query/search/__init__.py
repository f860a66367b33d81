"""Finding entities by words: an index that follows the view.

`words` cuts texts into words, `fields` says which texts of an entity are looked at, `question`
what is asked, `stages` in which order answers come, and `matching` where in an entity the words
are. The index itself is tantivy's (`textindex`), in memory; `indexer` and `follower` keep it in
step with the view, and `searching` answers.

An entity's place in an answer follows from the entity and the question alone: from the first stage
that it is found in, the number of words in its name, and when it was created. It does not depend on
how the index came about, so every replica answers the same, before and after a restart.
"""
