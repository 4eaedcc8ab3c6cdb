int helper(void) { return ME; }
