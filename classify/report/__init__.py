"""What a person looks at: the summary of runs, checks of what they claim, and one page that shows both."""
