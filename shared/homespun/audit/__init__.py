"""The audit: what was spent, what may be claimed, and what attacks could show."""
