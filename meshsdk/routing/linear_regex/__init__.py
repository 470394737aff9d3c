"""Regular expressions of RE2's syntax in time linear in the text, in pure Python.

What `meshsdk.routing.regex` runs where google-re2 is not installed.
`syntax` reads a pattern, `program` compiles it to instructions, `automaton` answers "does the whole text match",
`search` finds a match and its groups. Nothing here ever backtracks.
"""
