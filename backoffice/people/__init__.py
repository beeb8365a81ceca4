"""The people of the back office: users, groups and the roles they start with."""
