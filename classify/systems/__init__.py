"""Many systems in one table: runs that differ in their seeds are one system; differences are tested."""
