# name: the status of the command is the status of the run
# expect-status: 7
echo before
exit 7
