"""What a learner works with: stubs, progress, next steps."""
