/* The tree's own has struct Port. */
