"""What several roles need of ZooKeeper: a folder's children as a stream, election, membership."""
