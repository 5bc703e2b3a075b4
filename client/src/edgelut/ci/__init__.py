"""What `edgelut ci` is made of: its configuration, where it runs, the flow of jobs, and its reports."""
