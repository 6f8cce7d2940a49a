"""Browser client: the script of ``clients/browser`` as it was built goes to pages of any origin."""
