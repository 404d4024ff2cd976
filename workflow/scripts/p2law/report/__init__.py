"""The report's tables: pages of HTML, each number of the plan also as CSV."""
