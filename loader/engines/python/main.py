# SPDX-License-Identifier: Apache-2.0
# What __file__ of the module __main__ names in an interpreter that is a loader: applications ask
# where that is, and the children that multiprocessing spawns run it again. So nothing is in here.
