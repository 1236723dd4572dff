extern bool ClientAuthInProgress;
