-- A sequence that nothing refers to yet: the script or a trigger calls nextval itself.
CREATE SEQUENCE events_version;
