"""HDF5 files: their structure, their packed chunks, and files from strangers read in a child process."""
