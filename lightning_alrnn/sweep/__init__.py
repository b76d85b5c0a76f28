"""Many runs over P and seeds, and the verdict: how many nonlinear units does a task need?"""
